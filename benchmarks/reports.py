"""How fast reports become rows, beside plain Celery tasks, and what a host costs the capability table.

    python benchmarks/reports.py            # five minutes or so; docs/benchmarks.md says what it printed
    python benchmarks/reports.py --json --reports 500 --rounds 1 --pool threads

Everything runs on this machine, over the loopback, on a Valkey of its own unless --redis-url names another server.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from cost import BATCH, Cost, measure
from setting import machine, prepare, redis_at
from throughput import Sides, Throughput

POOLS = ("prefork", "threads", "solo")


@click.command(help=__doc__.partition("\n")[0])
@click.option("--reports", type=click.IntRange(1, 200_000), default=5000, show_default=True, help="Messages a side.")
@click.option("--hosts", type=click.IntRange(1, 20_000), default=1000, show_default=True, help="Hosts that report.")
@click.option("--rounds", type=click.IntRange(1, 50), default=5, show_default=True, help="Both sides, so many times.")
@click.option("--pool", "pools", type=click.Choice(POOLS), multiple=True, default=POOLS, show_default=True)
@click.option("--prefetch", type=click.IntRange(1, 1000), default=4, show_default=True, help="Of the plain worker.")
@click.option(
    "--table-hosts",
    "sizes",
    type=click.IntRange(1, 100_000),
    multiple=True,
    default=(100, 1000, 10_000),
    show_default=True,
    help="Size of a table whose cost is measured.",
)
@click.option("--redis-url", help="A Redis to use instead; its database must be empty, and is emptied again.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    *,
    reports: int,
    hosts: int,
    rounds: int,
    pools: tuple[str, ...],
    prefetch: int,
    sizes: tuple[int, ...],
    redis_url: str | None,
    as_json: bool,
) -> None:
    """Measure and print."""
    prepare()
    with redis_at(redis_url) as (client, url):
        sides = Sides(client, url, count=reports, hosts=hosts, prefetch=prefetch)
        throughput = []
        for pool in pools:
            click.echo(f"{pool}: {rounds} rounds of {reports} reports and {reports} tasks …", err=True)
            throughput.append(sides.measure(pool, rounds))
        costs = []
        for size in sizes:
            click.echo(f"a table of {size} hosts …", err=True)
            costs.append(measure(client, size))
        where = machine(client)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "machine": where,
                    "reports": reports,
                    "hosts": min(hosts, reports),
                    "prefetch": prefetch,
                    "throughput": [pool.to_dict() for pool in throughput],
                    "ratio": round(min(pool.ratio for pool in throughput), 3),
                    "table": [cost.to_dict() for cost in costs],
                },
                indent=2,
            )
        )
    else:
        _show(where, throughput, costs)


def _show(where: dict[str, Any], throughput: list[Throughput], costs: list[Cost]) -> None:
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    print("\none worker, one slot    reports/s (worker's CPU)    no-op tasks/s (worker's CPU)    ratio")
    for pool in throughput:
        known = pool.to_dict()
        print(
            f"{pool.pool:<20} {known['reports_per_second']:>12,.0f} ({known['report_cpu_us']:.0f} µs)"
            f" {known['tasks_per_second']:>24,.0f} ({known['task_cpu_us']:.0f} µs) {known['ratio']:>15.2f}"
        )
    print(f"\nRedis, per host        bytes   µs of script (of CPU): heartbeat     report   report, {BATCH} a call")
    for cost in costs:
        print(
            f"{cost.hosts:>8,} hosts {cost.bytes_per_host:>13,.0f}"
            f" {cost.heartbeat_script_us:>25.1f} ({cost.heartbeat_cpu_us:.0f})"
            f" {cost.report_script_us:>8.1f} ({cost.report_cpu_us:.0f})"
            f" {cost.batched_report_script_us:>9.1f} ({cost.batched_report_cpu_us:.0f})"
        )


if __name__ == "__main__":
    main()
