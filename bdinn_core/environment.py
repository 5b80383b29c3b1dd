"""Settings that torch reads once, when it's imported; whoever imports it first makes them before.

os.environ.update({**FOR_TORCH, **os.environ})   # a user's own stay
"""

__all__ = ["FOR_TORCH"]

FOR_TORCH = {
    # Torch's threads wait for each other by spinning else; beside a decoder, an encoder or other filters that
    # costs most of the machine (8.6 s a 1080p plane against 1.8 s, 2 cores).
    "OMP_WAIT_POLICY": "passive",
    # Large tensors in large pages (Linux): else the system hands out fresh memory 4 KiB at a time, zeroed,
    # which takes longer than filling it.
    "THP_MEM_ALLOC_ENABLE": "1",
}
