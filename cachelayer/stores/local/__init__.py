"""The local tier: a folder of this machine. What lies in it is documented in docs/storage.md, what is trusted in
SECURITY.md. Read store.py first; folder.py says which file looks after what."""

from cachelayer.stores.local.store import LocalStore, open_local, open_to_look, sizes_in

__all__ = ["LocalStore", "open_local", "open_to_look", "sizes_in"]
