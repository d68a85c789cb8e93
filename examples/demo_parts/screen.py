"""What the demo shows: a live table in a terminal, a line a second anywhere else."""

import time
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from demo_parts.catalogue import CUSTOMERS, Counted
from demo_parts.traffic import Books

__all__ = ["Screen"]

LINE_EVERY_S = 1.0


class Screen:
    """A context manager; `show` brings it up to date."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._started = time.monotonic()
        self._next_line = self._started + LINE_EVERY_S

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, books: Books, counted: Counted) -> None:
        """The books beside what the control plane has counted."""
        now = time.monotonic()
        headline = (
            f"{now - self._started:.0f} s · {books.events:,} events acknowledged · {counted.events:,} counted"
            f" · lag {books.lag_s(counted.events):.1f} s"
        )
        if self._live:
            self._live.update(Group(customers_table(headline, books, counted), agents_table(counted)), refresh=True)
        elif now >= self._next_line:
            self._next_line += LINE_EVERY_S
            costs = " · ".join(f"{key} {each.cost:,.2f} {each.currency}" for key, each in counted.customers.items())
            refused = sum(account.refused for account in books.accounts.values())
            self.console.print(f"{headline} · {costs} · {refused} refused", soft_wrap=True, highlight=False)


def customers_table(headline: str, books: Books, counted: Counted) -> Table:
    """One row per customer."""
    table = Table(title=headline, title_justify="left")
    for column in ("customer", "plan"):
        table.add_column(column)
    for column in ("events", "input tokens", "output tokens", "cost now", "requests used", "refused"):
        table.add_column(column, justify="right")
    table.add_column("last answer")
    for customer, account in books.accounts.items():
        ours = counted.customers[customer]
        table.add_row(
            customer,
            CUSTOMERS[customer],
            f"{ours.requests + ours.completions:,}",
            f"{ours.input_tokens:,}",
            f"{sum(ours.output_tokens.values()):,}",
            f"{ours.cost:,.2f} {ours.currency}",
            f"{ours.quota['used']} of {int(ours.quota['limit']):,}",
            f"{account.refused:,}",
            account.last_answer,
            style="red" if account.last_answer.startswith("429") else "",
        )
    return table


def agents_table(counted: Counted) -> Table:
    """One row per agent."""
    table = Table()
    for column in ("agent", "state"):
        table.add_column(column)
    table.add_column("events waiting", justify="right")
    for agent in sorted(counted.agents, key=lambda each: each["service"]):
        table.add_row(agent["service"], agent["state"], f"{agent['backlog']:,}")
    return table
