"""What the mirrors serve: the same bytes every time, some 2.1 GiB of which 2 are large files."""
import random
from pathlib import Path

# Another number, another data set: what lies there from before is made anew.
VERSION = 1
BIG = {"a.bin": 1 << 30, "b.bin": 512 << 20, "c.bin": 256 << 20}
SMALL_FOLDERS, SMALL_FILES = 20, 100
NAMES_FOLDERS, NAMES_FILES = 100, 1000
WIDE_FILES = 100_000
HEADS, HEAD_BYTES = 100, 256 << 10


def blob(dice, path, count):
    with open(path, "wb") as file:
        while count:
            part = min(count, 1 << 24)
            file.write(dice.randbytes(part))
            count -= part


def make(root):
    """Make it below `root` unless it is there."""
    root, mark = Path(root), Path(root) / f".made-{VERSION}"
    if mark.exists():
        return root
    dice = random.Random(7)
    for folder in ("big", "heads", "wide"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, size in BIG.items():
        blob(dice, root / "big" / name, size)
    for at in range(HEADS):
        blob(dice, root / "heads" / f"h{at:03}.bin", HEAD_BYTES)
    for folder in range(SMALL_FOLDERS):
        (root / "small" / f"d{folder:03}").mkdir(parents=True, exist_ok=True)
        for at in range(SMALL_FILES):
            blob(dice, root / "small" / f"d{folder:03}" / f"f{at:03}.dat", dice.randint(4 << 10, 64 << 10))
    for folder in range(NAMES_FOLDERS):
        (root / "names" / f"d{folder:03}").mkdir(parents=True, exist_ok=True)
        for at in range(NAMES_FILES):
            (root / "names" / f"d{folder:03}" / f"e{at:04}").write_text("x")
    for at in range(WIDE_FILES):
        (root / "wide" / f"w{at:06}").write_text("x")
    mark.touch()
    return root
