"""Files on the local disk: descriptors with one owner, and writing that is whole or not at all."""
