"""Precision: the right one is chosen, the floor holds, falling back is loud, packed layers give the same vectors."""

import ctypes
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import toy_models
from rag_embeddings.encode import precision as rooms
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.encode.resolve import resolve
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.errors import UnsupportedModelError

TEXTS = ["the river rose", "Is it safe?\n\nyes ", " a", "the river rose slowly and the bridge was closed again"]
REAL = ["How do I reset my password?", "Copper melts at 1085 degrees; tin at 232. " * 12, "x", "河水在春天慢慢上涨"]
HALF = [name for name, toy in toy_models.TOYS.items() if toy.pooling]


def reference(name):
    return SentenceTransformer(str(toy_models.folder(name)), device="cpu", local_files_only=True)


@pytest.fixture(scope="module")
def half():
    return TransformerEncoder(precision="bf16")


class TestChoice:
    @pytest.mark.parametrize(
        ("has", "expected"),
        [
            ({"amx_bf16": True, "avx512_bf16": True}, True),
            ({"avx512_bf16": True}, True),
            ({"amx_tile": True, "avx512_f": True, "amx_bf16": False}, False),
            ({}, False),
        ],
    )
    def test_of_a_processor_goes_by_what_it_calculates_in(self, has, expected, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
        assert rooms.expected_faster("cpu") is expected

    @pytest.mark.parametrize("has", [True, False])
    def test_of_a_gpu_goes_by_what_it_says(self, has, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: has)
        assert rooms.expected_faster("cuda") is has

    def test_of_any_other_device_is_fp32(self):
        assert not rooms.expected_faster("mps")

    @pytest.mark.parametrize(("faster", "expected"), [(True, "bf16"), (False, "fp32")])
    def test_auto_takes_bf16_where_it_is_faster(self, faster, expected, monkeypatch):
        monkeypatch.setattr(rooms, "expected_faster", lambda device: faster)
        monkeypatch.setattr(rooms, "FLOOR", 0.98)  # random weights lose more than trained ones
        assert TransformerEncoder(toy_models.folder("mean"), precision="auto").precision == expected

    def test_the_default_is_fp32_whatever_the_machine_has(self):
        assert toy_models.minilm().precision == "fp32"

    def test_static_word_vectors_have_nothing_to_run_in_bf16(self):
        assert TransformerEncoder(toy_models.folder("static"), precision="bf16").precision == "fp32"

    def test_an_unknown_word_is_refused_at_once(self):
        with pytest.raises(ValueError, match="one of auto, fp32, bf16, got 'fp16'"):
            TransformerEncoder(precision="fp16")


class TestFloor:
    def test_the_real_model_stays_far_above_it(self, half):
        exact = toy_models.minilm().encode(REAL, "document")
        assert half.precision == "bf16"
        assert 0.9999 < rooms.fidelity(exact, half.encode(REAL, "document")) < 1 - 1e-7

    @pytest.fixture
    def coarse(self, monkeypatch):
        """A bf16 that is far off, on a machine that prefers it."""

        def spoil(module, device):
            module.register_forward_hook(
                lambda _module, _inputs, features: {
                    **features,
                    "token_embeddings": features["token_embeddings"].roll(1, dims=-1),
                }
            )

        monkeypatch.setattr(rooms, "to_bf16", spoil)
        monkeypatch.setattr(rooms, "expected_faster", lambda device: True)

    def test_below_it_auto_warns_with_the_figure_and_runs_in_fp32(self, coarse):
        encoder = TransformerEncoder(toy_models.folder("mean"), precision="auto")
        with pytest.warns(
            UserWarning, match=r"cosine of -?0\.\d{5} to those in fp32, less than 0\.999; it runs in fp32"
        ):
            assert encoder.precision == "fp32"
        expected = toy_models.encoder("mean").encode(TEXTS, "document")
        assert np.array_equal(encoder.encode(TEXTS, "document"), expected)

    def test_below_it_bf16_fails(self, coarse):
        with pytest.raises(UnsupportedModelError, match="use precision='fp32'"):
            TransformerEncoder(toy_models.folder("mean"), precision="bf16").encode(TEXTS, "query")

    def test_a_model_that_refuses_is_said_aloud(self, monkeypatch):
        def refuse(self, inputs):
            raise AttributeError("'PackedLinear' object has no attribute 'weight'")

        monkeypatch.setattr(rooms.PackedLinear, "forward", refuse)
        monkeypatch.setattr(rooms, "expected_faster", lambda device: True)
        encoder = TransformerEncoder(toy_models.folder("mean"), precision="auto")
        with pytest.warns(UserWarning, match="cannot run in bf16: .* no attribute 'weight'; it runs in fp32"):
            assert encoder.precision == "fp32"

    def test_vectors_that_are_not_finite_are_below_it(self):
        exact = np.ones((3, 4), dtype=np.float32)
        assert rooms.fidelity(exact, np.where(np.eye(3, 4), np.nan, exact)) == 0
        assert rooms.fidelity(exact, exact) == pytest.approx(1)
        assert rooms.fidelity(exact, exact * [[1], [-1], [1]]) == pytest.approx(-1)


class TestVectors:
    @pytest.mark.parametrize("name", HALF)
    def test_of_every_kind_of_model_run_in_bf16(self, name, monkeypatch):
        monkeypatch.setattr(rooms, "FLOOR", 0.98)  # random weights lose more than trained ones
        encoder = TransformerEncoder(toy_models.folder(name), precision="bf16")
        for role in Role:
            exact = toy_models.encoder(name).encode(TEXTS, role)
            vectors = encoder.encode(TEXTS, role)
            assert vectors.dtype == np.float32
            assert rooms.fidelity(exact, vectors) > 0.98
        assert encoder.precision == "bf16"

    @pytest.mark.parametrize("amx", [False, True])
    def test_attention_is_in_bf16_where_there_is_amx(self, amx, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": amx})
        attention = torch.nn.functional.scaled_dot_product_attention
        seen = set()

        def spy(query, *inputs, **options):
            seen.add((query.dtype, torch.is_autocast_enabled("cpu")))
            return attention(query, *inputs, **options)

        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
        encoder = TransformerEncoder(precision="bf16")
        assert encoder.precision == "bf16"
        exact = toy_models.minilm().encode(REAL, "document")
        seen.clear()
        vectors = encoder.encode(REAL, "document")
        assert seen == {(torch.float32, amx)}  # autocast turns what is float32 into bf16 inside the call
        assert rooms.fidelity(exact, vectors) > 0.9999

    @pytest.mark.parametrize("name", HALF)
    def test_of_every_kind_of_model_with_amx(self, name, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
        self.test_of_every_kind_of_model_run_in_bf16(name, monkeypatch)

    def test_without_onednn_bf16_still_runs(self, monkeypatch):
        monkeypatch.setattr(rooms, "pack", lambda module, dtype: False)
        monkeypatch.setattr(rooms, "FLOOR", 0.98)
        encoder = TransformerEncoder(toy_models.folder("dense"), precision="bf16")
        exact = toy_models.encoder("dense").encode(TEXTS, "query")
        assert encoder.precision == "bf16"
        assert rooms.fidelity(exact, encoder.encode(TEXTS, "query")) > 0.98

    def test_whatever_the_company_bf16_stays_alike(self, half):
        together = half.encode(REAL, "document")
        alone = np.concatenate([half.encode([text], "document") for text in REAL])
        assert rooms.fidelity(together, alone) > 0.9999

    def test_of_the_real_model_in_packed_layers_equal_torchs_own(self):
        model = SentenceTransformer(
            str(resolve("sentence-transformers/all-MiniLM-L6-v2").folder), device="cpu", local_files_only=True
        )
        linear = [module for module in model.modules() if type(module) is torch.nn.Linear]
        assert linear
        expected = model.encode_document(REAL)
        if not rooms.pack(model, torch.float32):
            pytest.skip("this torch has no oneDNN")
        assert np.allclose(model.encode_document(REAL), expected, rtol=0, atol=1e-6)

    def test_a_model_that_looks_into_its_layers_keeps_them(self, monkeypatch):
        def refuse(self, inputs):
            raise AttributeError("'PackedLinear' object has no attribute 'weight'")

        monkeypatch.setattr(rooms.PackedLinear, "forward", refuse)
        encoder = TransformerEncoder(toy_models.folder("mean"))
        assert np.allclose(encoder.encode(TEXTS, "query"), reference("mean").encode_query(TEXTS), rtol=0, atol=1e-5)

    def test_packed_layers_that_give_other_vectors_are_not_used(self, monkeypatch):
        forward = rooms.PackedLinear.forward
        monkeypatch.setattr(rooms.PackedLinear, "forward", lambda self, inputs: forward(self, inputs) * 1.01)
        encoder = TransformerEncoder(toy_models.folder("mean"))
        assert np.allclose(encoder.encode(TEXTS, "query"), reference("mean").encode_query(TEXTS), rtol=0, atol=1e-5)


class TestCache:
    def test_one_precision_never_gets_the_vectors_of_the_other(self, half, tmp_path):
        cache = VectorCache(tmp_path / "vectors.sqlite")
        exact = CachedEncoder(toy_models.minilm(), cache)
        coarse = CachedEncoder(half, cache)
        assert exact.profile.space == coarse.profile.space  # a store takes both
        first, second = exact.encode(REAL, "document"), coarse.encode(REAL, "document")
        assert not np.array_equal(first, second)
        assert np.array_equal(exact.encode(REAL, "document"), first)
        assert np.array_equal(coarse.encode(REAL, "document"), second)
        assert cache.info().vectors == 2 * len(REAL)


class TestThreads:
    def test_lanes_share_out_the_threads(self, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 40)
        threads = rooms.Threads("cpu", shared=True)
        assert threads.lanes == 16
        assert threads._each == 2
        assert rooms.Threads("cpu", shared=False).lanes == 1
        assert rooms.Threads("cuda", shared=True).lanes == 1

    def test_a_lane_takes_its_share_and_gives_it_back(self):
        before = torch.get_num_threads()
        if before < 2:
            pytest.skip("torch has one thread here")
        threads = rooms.Threads("cpu", shared=True)
        for tokens, alone, expected in ((1000, False, 1), (10, True, 1), (1000, True, before)):
            with threads.lane(tokens, alone=alone):
                assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == before

    def test_a_lane_limits_mkl_too_which_goes_its_own_way_once_threads_are_set(self):
        libraries = [ctypes.CDLL(str(path)) for path in Path(torch.__file__).parent.glob("lib/*torch_cpu.*")]
        mkl = next((library for library in libraries if hasattr(library, "MKL_Get_Max_Threads")), None)
        before = torch.get_num_threads()
        if mkl is None or before < 2:
            pytest.skip("torch has no MKL or one thread here")
        torch.set_num_threads(before)
        with rooms.Threads("cpu", shared=True).lane(1000, alone=False):
            assert mkl.MKL_Get_Max_Threads() == 1
        assert mkl.MKL_Get_Max_Threads() == before

    def test_models_that_change_while_they_run_run_alone(self):
        class Rotary(torch.nn.Module):
            rope_type = "dynamic"

        assert not rooms.may_share(torch.nn.Sequential(Rotary()))
        assert rooms.may_share(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_nothing_is_said_where_nothing_is_wrong():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        TransformerEncoder(toy_models.folder("mean")).encode(["a"], "query")
    assert not said
