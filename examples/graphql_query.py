"""Ask the control plane what a customer owes right now, and what is left: GraphQL is one POST.

    python examples/graphql_query.py http://127.0.0.1:8080/graphql smk_… acme

`make demo` prints the URL and a key to use. Any HTTP client will do; here it is httpx.
"""

import sys
from decimal import Decimal
from typing import Any

import httpx

QUERY = """
query Now($customer: ID!) {
  customer(key: $customer) {
    cost { total { rounded currency } lines { text quantity amount { rounded } } }
    quotas { feature { key } used limit remaining }
  }
}
"""


def ask(url: str, key: str, query: str, **variables: object) -> dict[str, Any]:
    """The answer's `data`. GraphQL errors come with status 200, so they are looked for."""
    answer = httpx.post(
        url, json={"query": query, "variables": variables}, headers={"Authorization": f"Bearer {key}"}, timeout=10
    )
    answer.raise_for_status()
    body = answer.json()
    if body.get("errors"):
        raise SystemExit("\n".join(error["message"] for error in body["errors"]))
    data: dict[str, Any] = body["data"]
    return data


def main(url: str, key: str, customer: str) -> None:
    """Print the running bill and the quotas. Amounts are strings: exact decimals, never floats."""
    found = ask(url, key, QUERY, customer=customer)["customer"]
    if found is None:
        raise SystemExit(f"no customer {customer!r}")
    total = found["cost"]["total"]
    for line in found["cost"]["lines"]:
        print(f"{line['text']:<60} {Decimal(line['amount']['rounded']):>12,}")
    print(f"{customer} owes {Decimal(total['rounded']):,} {total['currency']} so far")
    for quota in found["quotas"]:
        print(f"{quota['feature']['key']}: {quota['used']} of {quota['limit']} used, {quota['remaining']} left")


if __name__ == "__main__":
    main(*sys.argv[1:4])
