"""The commands by which an operator decides about a host: ``disable``, ``enable`` and ``drain``."""

import click

from scheduler.claims import Claim
from workers import decisions
from workers.config import load_settings
from workers.console.commands import EX_FAILED, complain

_service = click.option("--service", metavar="S", help="Only this service of it.  [default: all]")


@click.command("disable")
@click.argument("host")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for those who wonder later.")
@_service
def disable(host: str, reason: str, service: str | None) -> None:
    """Place nothing more on HOST until it is enabled, over restarts too. What it has runs on."""
    if not reason.strip():
        raise click.BadParameter("it is blank", param_hint="--reason")
    click.echo(
        f"{host} is disabled: {', '.join(decisions.disable(host, reason, service=service, fleet=load_settings()))}"
    )


@click.command("enable")
@click.argument("host")
@_service
def enable(host: str, service: str | None) -> None:
    """Undo disable and drain: HOST gets work again, what waits for it at once."""
    click.echo(f"{host} is enabled: {', '.join(decisions.enable(host, service=service, fleet=load_settings()))}")


@click.command("drain")
@click.argument("host")
@click.option("--reason", default="maintenance", show_default=True, metavar="TEXT", help="Why.")
@click.option(
    "--wait", is_flag=False, flag_value=float("inf"), type=click.FloatRange(min=0), metavar="SECONDS",
    help="Wait until it holds no claim, so long at most; without SECONDS as long as it takes.",
)  # fmt: skip
@_service
@click.pass_context
def drain(ctx: click.Context, host: str, reason: str, wait: float | None, service: str | None) -> None:
    """Disable HOST, then wait until what it has is done.

    Exit status 1 if it holds claims still when the wait is over; it stays disabled either way.
    """
    told: list[int] = []

    def tell(left: list[Claim]) -> None:
        if left and wait and len(left) not in told[-1:]:
            complain(f"{host} is draining: {_left(left)}")
        told.append(len(left))

    try:
        done = decisions.drain(host, reason, service=service, wait=wait, on_left=tell, fleet=load_settings())
    except KeyboardInterrupt:
        complain(f"{host} stays disabled; celeriac enable {host} undoes it")
        ctx.exit(EX_FAILED)
    services = ", ".join(done.services)
    if not done.left:
        click.echo(f"{host} is drained: {services}")
    elif wait is None:
        click.echo(f"{host} is draining: {services}; {_left(done.left)}; celeriac drain {host} --wait waits for them")
    else:
        complain(
            f"{host} is not drained in {wait:g} s and stays disabled: {_left(done.left)}; celeriac claims lists them"
        )
        ctx.exit(EX_FAILED)


def _left(left: list[Claim]) -> str:
    return f"{len(left)} claim{'' if len(left) == 1 else 's'} left"
