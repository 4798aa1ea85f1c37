"""A process that writes pairs of rows as fast as it can, and says which transactions were acknowledged."""

import sys
from pathlib import Path

from weft.model import Claim
from weft.ports import CLAIMS, Put
from weft.store.sqlite import SqliteStore


def main() -> None:
    store = SqliteStore(Path(sys.argv[1]))
    row = store.get(CLAIMS, "left")
    number = int(row.value.owner) if row is not None else 0
    while True:
        number += 1
        pair = [Put(CLAIMS, Claim(id=side, owner=str(number))) for side in ("left", "right")]
        history = Put(CLAIMS, Claim(id=f"number:{number}", owner="x" * 5000))
        store.transact({}, [pair[0], history, pair[1]])
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
