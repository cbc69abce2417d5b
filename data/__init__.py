"""Where training audio comes from: one TFDS builder per corpus, and one way to prepare it."""
