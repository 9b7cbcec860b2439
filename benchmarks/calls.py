"""What an exposed method costs beside a bare Celery task: round trips, throughput, CPU.

    python benchmarks/calls.py            # two minutes or so; docs/benchmarks.md says what it printed
    python benchmarks/calls.py --json --calls 100 --casts 500 --rounds 1 --pool threads

Everything runs on this machine, over the loopback, on a Valkey of its own unless --redis-url names another server.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from roundtrip import Calls, measure
from setting import machine, prepare, redis_at

POOLS = ("prefork", "threads", "solo")


@click.command(help=__doc__.partition("\n")[0])
@click.option("--calls", type=click.IntRange(2, 100_000), default=400, show_default=True, help="Round trips a side.")
@click.option("--casts", type=click.IntRange(1, 100_000), default=2000, show_default=True, help="Casts a side.")
@click.option("--rounds", type=click.IntRange(1, 50), default=5, show_default=True, help="Both sides, so many times.")
@click.option("--pool", "pools", type=click.Choice(POOLS), multiple=True, default=POOLS, show_default=True)
@click.option("--redis-url", help="A Redis to use instead; its database must be empty, and is emptied again.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, calls: int, casts: int, rounds: int, pools: tuple[str, ...], redis_url: str | None, as_json: bool) -> None:
    """Measure and print."""
    prepare()
    with redis_at(redis_url) as (client, url):
        measured = []
        for pool in pools:
            click.echo(f"{pool}: {rounds} rounds of {calls} round trips and {casts} casts a side …", err=True)
            measured.append(measure(pool, url, calls=calls, casts=casts, rounds=rounds))
            client.flushdb()
        where = machine(client)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "machine": where,
                    "calls": calls,
                    "casts": casts,
                    "pools": [pool.to_dict() for pool in measured],
                    "ratio": round(min(min(pool.latency_ratio, pool.throughput_ratio) for pool in measured), 3),
                },
                indent=2,
            )
        )
    else:
        _show(where, measured)


def _show(where: dict[str, Any], measured: list[Calls]) -> None:
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    print("\none worker, one slot      p50 ms   p99 ms   messages/s   CPU µs: sender   worker")
    for pool in measured:
        known = pool.to_dict()
        for side in ("method", "task"):
            figures = known[side]
            print(
                f"{pool.pool + ' ' + side:<22} {figures['p50_ms']:>9.2f} {figures['p99_ms']:>8.2f}"
                f" {figures['per_second']:>12,.0f} {figures['send_cpu_us']:>16.0f} {figures['worker_cpu_us']:>8.0f}"
            )
        print(f"{pool.pool + ' ratio':<22} {known['latency_ratio']:>9.2f} {known['throughput_ratio']:>21.2f}")


if __name__ == "__main__":
    main()
