"""Document to spans: sentences, token counts, the packer and the splitters built on it."""
