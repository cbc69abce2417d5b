"""One file per published system or idea; each is a document that train.py can run."""
