"""A small corpus, and the command line with models that need no download."""

import json

import pytest
from click.testing import CliRunner
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from rag_embeddings.cli.app import cli
from rag_embeddings.cli.models import Models
from rag_embeddings.testing.encoder import DeterministicEncoder

MILL = """# The mill

The old mill stood by the river. It burned down in the autumn of 1902, and nobody was hurt.

The owner sold the land to a brewer from the city. The brewer never built anything on it.
"""
BRIDGE = """# The bridge

The stone bridge has three arches. A flood carried away the middle arch in 1911.

It was repaired within a year, and carts crossed it every day.\r\nCaf\u00e9 owners were glad \U0001f600.
"""


class World:
    """A folder of documents, an index, and a way to call the command line on them."""

    def __init__(self, folder):
        self.docs = folder / "docs"
        self.db = folder / "db"
        self.encoder = DeterministicEncoder(dimensions=256)
        self.chats = []
        (self.docs / "sub").mkdir(parents=True)
        self.write("mill.md", MILL)
        self.write("sub/bridge.txt", BRIDGE)

    def write(self, name, text):
        path = self.docs / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def id(self, name):
        return (self.docs / name).resolve().as_posix()

    def call(self, *arguments, code=0, answer=None, encoder=None):
        models = Models(
            by_name=lambda _: encoder or self.encoder,
            of_profile=lambda _: encoder or self.encoder,
            chat=lambda name: self._chat(name, answer),
        )
        result = CliRunner().invoke(cli, [str(item) for item in arguments], obj=models)
        assert result.exit_code == code, (result.output, result.stderr)
        return result

    def json(self, *arguments, **options):
        return json.loads(self.call(*arguments, "--json", **options).stdout)

    def index(self, *arguments, **options):
        return self.json("index", *(arguments or [self.docs]), "--db", self.db, **options)

    def _chat(self, name, answer):
        self.chats.append(name)

        world = self

        class Recording(GenericFakeChatModel):
            def _generate(self, messages, *rest, **kwargs):
                world.messages = messages
                return super()._generate(messages, *rest, **kwargs)

        return Recording(messages=iter([AIMessage(answer)]))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)
