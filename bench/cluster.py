"""How many workers do the head and the object store serve, before more of them stop helping? A simulation.

    python -m bench.cluster --cell 200 --send 0.05 --take 0.6 --megabytes 175

Each cell costs a worker its own time and overhead. Each worker is a node of its own, and the head's link brings the
data to one after the other. The head sends each task and takes in each result, one at a time.
"""

import argparse
import heapq
from collections.abc import Sequence


def simulate(cells: int, workers: int, cell: float, send: float, take: float, first: float) -> float:
    """Seconds until the head has taken in all cells.

    `cell` runs on a worker, `send` and `take` occupy the head for each cell, `first` is the copy of the data to a
    worker's node, which the head's link makes one after the other.
    """
    head, ended = 0.0, list[float]()  # when the head is free; when workers end, the earliest first
    waiting, copied, taken = cells, 0.0, 0
    for _ in range(min(workers, cells)):
        copied += first
        head += send
        heapq.heappush(ended, max(head, copied) + cell)
        waiting -= 1
    while taken < cells:
        head = max(head, heapq.heappop(ended)) + take
        taken += 1
        if waiting:
            head += send
            heapq.heappush(ended, head + cell)
            waiting -= 1
    return head


def table(cells: Sequence[int], workers: Sequence[int], cell: float, send: float, take: float, first: float) -> str:
    """Hours, and the share of all workers' time that cells have, by cells and workers."""
    rows = ["| cells | workers | hours | workers at work |", "| ---: | ---: | ---: | ---: |"]
    for count in cells:
        for number in workers:
            seconds = simulate(count, number, cell, send, take, first)
            rows.append(f"| {count:,} | {number:,} | {seconds / 3600:.2f} | {count * cell / (number * seconds):.0%} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--cell", type=float, required=True, help="seconds of a cell on a worker, its overhead included"
    )
    parser.add_argument("--send", type=float, required=True, help="seconds of the head for a task sent")
    parser.add_argument("--take", type=float, required=True, help="seconds of the head for a result taken in")
    parser.add_argument("--megabytes", type=float, required=True, help="of commit and data, once for each worker")
    parser.add_argument("--bandwidth", type=float, default=125.0, help="of the head's link, MB/s: 125 is a gigabit/s")
    parser.add_argument("--cells", type=int, nargs="+", default=[50, 5000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8, 32, 128, 512])
    given = parser.parse_args()
    first = given.megabytes / given.bandwidth
    print(table(given.cells, given.workers, given.cell, given.send, given.take, first))


if __name__ == "__main__":
    main()
