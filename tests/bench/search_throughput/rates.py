"""Pairs a second and CPU a pair, of everybody in one run: keeptune, the floor and the peers."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.bench.search_throughput import servers
from tests.bench.search_throughput.load import WAYS
from tests.bench.search_throughput.servers import HERE, Rate, Target

FLOOR, SQLITE, POSTGRES = "floor", "keeptune on SQLite", "keeptune on PostgreSQL"
OWN = (SQLITE, POSTGRES)

# Who, how (a key of WAYS, or "" for peers), how many clients.
Row = tuple[str, str, int]


@dataclass
class Rates:
    """All that was measured, of each row in the order of the rounds."""

    measured: dict[Row, list[Rate]] = field(default_factory=dict)

    def add(self, row: Row, rate: Rate) -> None:
        self.measured.setdefault(row, []).append(rate)
        who, way, clients = row
        print(
            f"  {who:26} {way:9} {clients:3} clients {rate.pairs:8.1f} pairs/s"
            f" {rate.cpu:8.2f} ms of CPU a pair",
            flush=True,
        )

    def median(self, row: Row) -> Rate | None:
        found = self.measured.get(row)
        if not found:
            return None
        return Rate(median(each.pairs for each in found), median(each.cpu for each in found))

    def ratio(self, row: Row, other: Row) -> Rate | None:
        """The median of the rounds' ratios: what loads the machine for a while loads both."""
        pairs = list(zip(self.measured.get(row, ()), self.measured.get(other, ()), strict=False))
        if not pairs:
            return None
        return Rate(
            median(a.pairs / max(b.pairs, 0.1) for a, b in pairs),
            median(a.cpu / max(b.cpu, 1e-3) for a, b in pairs),
        )

    def best_peer(self, clients: int) -> Row | None:
        found = {
            row: rate.pairs
            for row in self.measured
            if not row[1] and row[2] == clients and (rate := self.median(row)) is not None
        }
        return max(found, key=lambda row: found[row]) if found else None


@dataclass(frozen=True)
class Peers:
    """Interpreters that have the peers; None = not measured."""

    optuna: Path | None = None
    vizier: Path | None = None


def measure(clients: Sequence[int], seconds: float, rounds: int, peers: Peers) -> Rates:
    rates = Rates()
    with targets() as found:
        for turn in range(rounds):
            print(f"round {turn + 1}")
            for count in clients:
                for way in WAYS:
                    for who, target in found.items():
                        rates.add((who, way, count), servers.load(target, way, count, seconds))
                with tempfile.TemporaryDirectory() as folder:
                    for who, rate in of_peers(peers, Path(folder), count, seconds):
                        rates.add((who, "", count), rate)
    return rates


@contextmanager
def targets() -> Iterator[dict[str, Target]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = {
            FLOOR: stack.enter_context(servers.floor(folder)),
            SQLITE: stack.enter_context(servers.keeptune(folder / "sqlite")),
        }
        try:
            url = stack.enter_context(servers.postgres_database())
        except servers.NoPostgresError as error:
            print(f"{POSTGRES}: not measured, {error}")
        else:
            found[POSTGRES] = stack.enter_context(servers.keeptune(folder / "postgres", url))
        yield found


def of_peers(
    peers: Peers, folder: Path, clients: int, seconds: float
) -> Iterator[tuple[str, Rate]]:
    """Each with a fresh database."""
    if peers.optuna is not None:
        script = HERE / "peers" / "optuna_pairs.py"
        url = f"sqlite:///{folder / 'optuna.db'}"
        yield "Optuna proxy on SQLite", _peer(peers.optuna, script, url, clients, seconds)
        try:
            with servers.postgres_database() as url:
                rate = _peer(peers.optuna, script, url, clients, seconds)
                yield "Optuna proxy on PostgreSQL", rate
        except servers.NoPostgresError as error:
            print(f"Optuna proxy on PostgreSQL: not measured, {error}")
    if peers.vizier is not None:
        script = HERE / "peers" / "vizier_pairs.py"
        url = f"sqlite:///{folder / 'vizier.db'}"
        yield "Vizier on SQLite", _peer(peers.vizier, script, url, clients, seconds)


def _peer(python: Path, script: Path, url: str, clients: int, seconds: float) -> Rate:
    command = [str(each) for each in (python, script, url, clients, max(seconds, 8.0))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{script.name} failed:\n{done.stderr[-2000:]}")
    return servers.rate_of(done.stdout)
