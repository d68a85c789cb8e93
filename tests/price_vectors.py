"""Worked examples of pricing, from their own schema to charges and usages as the product takes them.

A vector names a model of its own, wrapped perhaps in others. `solve` asks the product, through whatever `ask` is given,
what the charges cost that say the same, and answers the one figure that the vector expects:

* flat, per_unit, package, graduated, volume, stairstep, percentage, graduated_percentage, matrix and dynamic are models;
* discount_usage, discount_percentage, maximum_spend and minimum_commitment around a price are modifiers of its charge,
  as long as they stand in the product's order. In another order, or around an amount, the inner price is asked for
  first, and the modifier is one of a recurring fee of that amount;
* a percentage, a discount of an amount: `discount` and `true_up` are the difference that the modifier makes;
* a commitment with an overage factor is a graduated price of the money: 1 up to the commitment, the factor beyond;
* blocks of a tier are packages from the units that the tiers below hold, up to the price of all of its blocks. In
  TOP_TIER, and where a tier is picked by another quantity, a volume price says which tier is reached, and all units are
  priced by it alone;
* a step that is reached by several units is the one of the unit that reaches furthest;
* a cap of a tier is the maximum of a charge for this tier's slice alone;
* a share of a commitment is worked out here, to 12 digits: it is the share of a period that changes of plan work out;
* a price on top of another that no single charge has is the difference of two prices, the earlier one without minimum;
* what the product refuses, and changes no price: tiers that hold nothing, a bound of the last tier (no vector lies beyond
  one), a discount above 100 % (it is never above the price);
* a coupon of a fixed amount is a recurring credit, and the minimum of 0 keeps the rest from being paid out.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, NamedTuple

__all__ = ["OUT_OF_SCOPE", "Answer", "Ask", "Line", "OutOfScope", "solve"]

OUT_OF_SCOPE = {
    "cap": "a tier that has both a cap and a flat fee: the vectors do not say whether the cap holds for the fee too",
    "billed_before": "billed_before beside previous_usage: a slice has one figure that was billed before it",
}
"""What has no place in the product, and why."""

ZERO = Decimal(0)


class OutOfScope(Exception):
    """The vector has a parameter that is in OUT_OF_SCOPE."""

    def __init__(self, parameter: str) -> None:
        super().__init__(OUT_OF_SCOPE[parameter])


class Line(NamedTuple):
    """A line of a price, as far as the vectors look at it."""

    tier: int | None
    match: Mapping[str, Sequence[str]] | None
    amount: Decimal


class Answer(NamedTuple):
    """A price: exact, rounded, and its lines."""

    amount: Decimal
    rounded: Decimal
    lines: Sequence[Line]


Ask = Callable[[str, Mapping[str, Any], Mapping[str, Any]], Awaitable[Answer]]
"""Takes a currency, a ChargeInput and a UsageInput, as JSON, to the price."""


async def solve(vector: Mapping[str, Any], ask: Ask) -> Decimal:
    """The figure that the vector asks for; OutOfScope when the product has none."""
    case = Case(vector["model"], vector["params"], vector["usage"], ask, vector["params"].get("currency", "USD"))
    return await case.figure(vector["expected"].get("of", "total"))


async def line_amounts(vector: Mapping[str, Any], ask: Ask) -> list[Decimal]:
    """The amounts of the lines that a matrix vector names, in its order; lines of one rate share what it owes."""
    case = Case(vector["model"], vector["params"], vector["usage"], ask, vector["params"]["currency"])
    lines = (await case.ask(*case.charge())).lines
    wanted = [each["props"] for each in vector["expected"]["lines"]]
    return [_owed_by(lines, props) for props in wanted]


def _owed_by(lines: Sequence[Line], props: Mapping[str, str]) -> Decimal:
    matching = [
        line.amount for line in lines if line.match and all(props.get(key) in line.match[key] for key in line.match)
    ]
    default = [line.amount for line in lines if line.match == {}]
    return sum(matching or default, ZERO)


SHARED = ("round", "previous_usage", "transform", "zero_usage_flat_fee")
"""Parameters that say something of the price inside too."""

# In the product's order; a wrapper may stand only around those before it.
MODIFIERS = {"discount_usage": 1, "discount_percentage": 2, "maximum_spend": 3, "minimum_commitment": 4}


@dataclass(frozen=True)
class Case:
    """One price of a vector: its model, parameters and usage; nested prices are cases of their own."""

    model: str
    params: Mapping[str, Any]
    usage: Any
    asked: Ask
    currency: str

    async def figure(self, of: str) -> Decimal:
        match of:
            case "quantity":
                return await self.quantity()
            case "discount" if self.model == "discount_amount":
                return await self.settled([Decimal(self.params["base"])]) - await self.total()
            case "discount" if "billed_before" in self.params:
                before, price = Decimal(self.params["billed_before"]), await self.inner().total()
                return price - (await self.of_amount(before + price) - await self.of_amount(before))
            case "discount":
                return await self.inner().total() - await self.total()
            case "true_up":
                changed = await self.total() - await self.inner().total()
                return changed if await self.inner().total() < Decimal(self.minimum()) else ZERO
            case "delta" if "billed_before" in self.params:
                if "previous_usage" in self.params:
                    raise OutOfScope("billed_before")
                return await self.total() - Decimal(self.params["billed_before"])
        return await self.total()

    async def total(self) -> Decimal:
        """What is owed; on top of the previous usage, if the vector has one."""
        if "previous_usage" in self.params and not self.is_one_charge():
            now = self.without("previous_usage")
            earlier = replace(now, params={**now.params, "final_period": False}, usage=self.params["previous_usage"])
            return await now.total() - await earlier.total()
        if self.params.get("apply") == "per_item":
            one = self.without("apply")
            return sum([await replace(one, usage=item).total() for item in self.usage], ZERO)
        if self.is_one_charge():
            return self.chosen(await self.ask(*self.charge()))
        if self.model == "minimum_commitment" and self.is_plan_commitment():
            return await self.commitment()
        if self.model in MODIFIERS:
            return await self.of_amount(await self.inner().total())
        return await self.composed()

    async def composed(self) -> Decimal:
        match self.model:
            case "sum":
                return await self.settled([await part.total() for part in self.parts()])
            case "discount_amount":
                return await self.less_coupons()
            case "tier_block":
                return await self.settled([await self.blocks(*unit) for unit in self.params["units"].items()])
            case "stairstep":
                return await self.furthest_step()
            case "volume":
                return await self.priced_in_tier(Decimal(self.params["tier_quantity"]))
            case "graduated":
                return await self.capped()
        return self.chosen(await self.ask(*self.charge()))

    def is_one_charge(self) -> bool:
        """Whether one charge of the product says all of it, previous usage too."""
        if self.params.get("apply") == "per_item":
            return False
        match self.model:
            case "minimum_commitment" if self.is_plan_commitment():
                return False
            case _ if self.model in MODIFIERS:
                inner = self.inner()
                return MODIFIERS.get(inner.model, 0) < MODIFIERS[self.model] and inner.is_one_charge()
            case "sum" | "tier_block" | "discount_amount":
                return False
            case "stairstep":
                return not isinstance(self.usage, Mapping) or len(self.usage) == 1
            case "volume":
                return "tier_quantity" not in self.params
            case "graduated":
                return all(tier.get("cap") is None for tier in self.params["tiers"])
            case "percentage" | "matrix":
                return "previous_usage" not in self.params
        return True

    def is_plan_commitment(self) -> bool:
        return bool(self.params.keys() & {"overage_factor", "true_up"})

    def without(self, *names: str) -> "Case":
        return replace(self, params={key: value for key, value in self.params.items() if key not in names})

    def parts(self) -> list["Case"]:
        return [
            replace(self, model=part["model"], params=part["params"], usage=part.get("usage", self.usage))
            for part in self.params["parts"]
        ]

    async def settled(self, amounts: Sequence[Decimal]) -> Decimal:
        """A sum of exact amounts, rounded as the vector says."""
        total = sum(amounts, ZERO)
        return self.chosen(await self.ask({"model": "FLAT", "amount": str(total)}, {}))

    async def quantity(self) -> Decimal:
        """A quantity is what it costs at 1 each."""
        if self.model == "package":
            return await replace(self, params={**self.params, "package_price": "1"}).total()
        if self.model in MODIFIERS:
            nested = {**self.params["price"]["params"], "unit_price": "1"}
            price = {"model": "per_unit", "params": nested}
            return await replace(self, params={**self.params, "price": price}).total()
        return await replace(self, model="per_unit", params={**self.params, "unit_price": "1"}).total()

    def chosen(self, answer: Answer) -> Decimal:
        return answer.rounded if self.params.get("round") == "currency" else answer.amount

    async def ask(self, charge: Mapping[str, Any], usage: Mapping[str, Any]) -> Answer:
        return await self.asked(self.currency, {"key": "vector", **charge}, usage)

    def inner(self) -> "Case":
        """The price that a modifier is around; what is said of the whole is said of it."""
        nested = self.params["price"]
        kept = {key: self.params[key] for key in SHARED if key in self.params}
        params = {**kept, **nested["params"]}
        return replace(self, model=nested["model"], params=params, usage=nested.get("usage", self.usage))

    async def of_amount(self, amount: Decimal) -> Decimal:
        """This modifier around an amount of money that is known already."""
        flat = {"model": "flat", "params": {"amount": str(amount)}}
        alone = self.without("billed_before", "previous_usage", "apply")
        return await replace(alone, params={**alone.params, "price": flat}, usage=None).total()

    # What a charge says, and the usage beside it.

    def charge(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.model in MODIFIERS:
            charge, usage = self.inner().charge()
            return {**charge, **self.modifier()}, {**usage, **self.slice()}
        charge = {key: value for key, value in self.written().items() if value is not None}
        if "transform" in self.params:
            charge["convert"] = converted(self.params["transform"])
        if self.params.get("zero_usage_flat_fee") == "charged":
            charge["chargeFlatFeeAtZero"] = True
        meter = {} if self.model == "flat" else {"meter": "meter"}
        return {**meter, "model": self.model.upper(), **charge}, {**self.used(), **self.slice()}

    def modifier(self) -> dict[str, Any]:
        match self.model:
            case "discount_usage":
                return {"discountUnits": self.params["discount_quantity"]}
            case "discount_percentage":
                percentages = self.params.get("percentages") or [self.params["percentage"]]
                return {"discountPercentages": [str(min(Decimal(each), Decimal(100))) for each in percentages]}
            case "maximum_spend":
                return {"maximum": self.params["maximum"]}
        return {"minimum": self.minimum()}

    def minimum(self) -> str:
        share = self.params.get("proration", {"numerator": "1", "denominator": "1"})
        with localcontext(prec=60, rounding=ROUND_HALF_UP):
            part = Decimal(self.params["minimum"]) * Decimal(share["numerator"]) / Decimal(share["denominator"])
            return format(part.quantize(Decimal("1e-12")), "f")

    def slice(self) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if "previous_usage" in self.params:
            said["previousQuantity"] = _only(self.params["previous_usage"])
        if self.params.get("final_period") is False:
            said["final"] = False
        return said

    def used(self) -> dict[str, Any]:
        match self.usage:
            case None if self.model == "percentage":
                return {"events": [self.params["base"]]}
            case None:
                return {}
            case str() if self.model == "percentage":
                return {"events": [self.usage]}
            case str():
                return {} if self.model == "flat" else {"quantity": self.usage}
            case {}:
                return {"quantity": _only(self.usage)}
            case [{"props": _}, *_]:
                return {"lines": [{"dimensions": line["props"], "quantity": line["quantity"]} for line in self.usage]}
        return {"lines": []} if self.model == "matrix" else {"events": list(self.usage)}

    def written(self) -> dict[str, Any]:
        params = self.params
        match self.model:
            case "flat":
                return {"amount": params["amount"]}
            case "per_unit":
                return {"unitPrice": params["unit_price"]}
            case "package":
                return {
                    "packagePrice": params["package_price"],
                    "packageSize": params["package_size"],
                    "packageRounding": params.get("rounding", "up").upper(),
                    "includedUnits": params.get("free_units"),
                }
            case "graduated" | "volume":
                return {"tiers": tiers(params["tiers"], unitPrice="unit_price")}
            case "graduated_percentage":
                return {"tiers": tiers(params["tiers"], percentage="percentage_rate")}
            case "stairstep":
                return self.staircase()
            case "percentage":
                return {
                    "percentage": params["percentage_rate"],
                    "fixedPerEvent": params.get("fixed_per_event"),
                    "minPerEvent": params.get("min_per_event"),
                    "maxPerEvent": params.get("max_per_event"),
                    "freeEvents": None if params.get("free_events") is None else int(params["free_events"]),
                    "freeAmount": params.get("free_amount"),
                }
            case "matrix":
                rates = [{"match": rate["match"], "unitPrice": rate["unit_price"]} for rate in params["rates"]]
                return {"rates": rates, "defaultUnitPrice": params.get("default") or "0"}
            case "dynamic":
                return {"multiplier": params.get("multiplier")}
        raise AssertionError(f"there is no model {self.model!r}")

    def staircase(self) -> dict[str, Any]:
        rising = self.rising([_only(step["limits"] or {"": None}) for step in self.params["steps"]])
        steps = [{"up_to": limit, "flat_fee": self.params["steps"][number]["price"]} for number, limit in rising]
        return {"tiers": tiers(steps), "stairstepCumulative": self.params["mode"] == "cumulative"}

    @staticmethod
    def rising(limits: Sequence[str | None]) -> list[tuple[int, str | None]]:
        """The steps that a quantity can be the first to fit in: higher than those before, none behind an open one."""
        kept: list[tuple[int, str | None]] = []
        for number, limit in enumerate(limits):
            if not kept or limit is None or Decimal(limit) > Decimal(kept[-1][1] or 0):
                kept.append((number, limit))
            if limit is None:
                break
        return kept

    # Prices that are put together from several answers.

    async def less_coupons(self) -> Decimal:
        percentages = {"discountPercentages": self.params["percentages"]} if self.params.get("percentages") else {}
        coupons = self.params.get("discounts") or [self.params[key] for key in ("discount",) if key in self.params]
        price = self.chosen(await self.ask({"model": "FLAT", "amount": self.params["base"], **percentages}, {}))
        left = price - sum(map(Decimal, coupons), ZERO)
        return self.chosen(await self.ask({"model": "FLAT", "amount": str(left), "minimum": "0"}, {}))

    async def commitment(self) -> Decimal:
        price, minimum = await self.inner().total(), self.minimum()
        beyond = {"unitPrice": self.params.get("overage_factor", "1")}
        below = [{"upTo": minimum, "unitPrice": "1"}] if Decimal(minimum) else []
        owed = self.params.get("true_up", True) and self.params.get("final_period", True)
        charge = {"meter": "spend", "model": "GRADUATED", "tiers": [*below, beyond]}
        return self.chosen(await self.ask(charge | ({"minimum": minimum} if owed else {}), {"quantity": str(price)}))

    async def furthest_step(self) -> Decimal:
        """Each unit alone says which step it reaches."""
        steps, furthest = self.params["steps"], (-1, ZERO)
        for unit, quantity in self.usage.items():
            limits = [(step["limits"] or {}).get(unit) for step in steps]
            own = [{"limits": {unit: limit}, "price": step["price"]} for limit, step in zip(limits, steps, strict=True)]
            answer = await self.ask(*replace(self, params={**self.params, "steps": own}, usage=quantity).charge())
            if answer.lines:
                number, _ = self.rising(limits)[(answer.lines[-1].tier or 1) - 1]
                furthest = max(furthest, (number, self.chosen(answer)))
        return furthest[1]

    async def priced_in_tier(self, by: Decimal) -> Decimal:
        """Everything in the tier that another quantity falls in."""
        number = await self.tier_of(self.params["tiers"], by)
        tier = {**self.params["tiers"][number], "up_to": None}
        params = {key: value for key, value in self.params.items() if key != "tier_quantity"}
        return await replace(self, params={**params, "tiers": [tier]}).total()

    async def tier_of(self, ladder: Sequence[Mapping[str, Any]], quantity: Decimal) -> int:
        priced = [{"upTo": tier["up_to"], "unitPrice": "1"} for tier in ladder]
        answer = await self.ask({"meter": "m", "model": "VOLUME", "tiers": priced}, {"quantity": str(quantity)})
        return answer.lines[0].tier - 1 if answer.lines and answer.lines[0].tier else 0

    async def capped(self) -> Decimal:
        """Each tier as a charge of its own, in which the other tiers are free."""
        owed = ZERO
        for number, tier in enumerate(self.params["tiers"]):
            if tier.get("cap") is not None and Decimal(tier.get("flat_fee") or 0):
                raise OutOfScope("cap")
            alone = [
                {"up_to": each["up_to"], "unit_price": "0"} if other != number else {**each, "cap": None}
                for other, each in enumerate(self.params["tiers"])
            ]
            charge, usage = replace(self, params={**self.params, "tiers": alone}).charge()
            capped = charge if tier.get("cap") is None else {**charge, "maximum": tier["cap"]}
            owed += (await self.ask(capped, usage)).amount
        return await self.settled([owed])

    async def blocks(self, name: str, tiers: Sequence[Mapping[str, Any]]) -> Decimal:
        quantity = Decimal((self.usage.get(name) if isinstance(self.usage, Mapping) else self.usage) or 0)
        below, ladder = ZERO, []
        for tier in tiers:
            holds = (
                None if tier.get("max_blocks") is None else Decimal(tier["block_size"]) * Decimal(tier["max_blocks"])
            )
            ladder.append((below, holds, tier))
            below += holds or ZERO
        if self.params["policy"] == "TOP_TIER":
            tops = [None if holds is None else str(start + holds) for start, holds, _ in ladder[:-1]]
            number = await self.tier_of([{"up_to": top} for top in [*tops, None]], quantity)
            return (await self.ask(self.block(tiers[number]), {"quantity": str(quantity)})).amount
        owed = ZERO
        for start, holds, tier in ladder:
            most = {} if holds is None else {"maximum": str(Decimal(tier["max_blocks"]) * Decimal(tier["block_price"]))}
            charge = self.block(tier) | ({"includedUnits": str(start)} if start else {}) | most
            owed += (await self.ask(charge, {"quantity": str(quantity)})).amount
        return owed

    @staticmethod
    def block(tier: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "meter": "m",
            "model": "PACKAGE",
            "packagePrice": tier["block_price"],
            "packageSize": tier["block_size"],
        }


def tiers(rows: Sequence[Mapping[str, Any]], **price: str) -> list[dict[str, Any]]:
    """Tiers under the product's names; `price` takes the name of the product's price to the vectors'."""
    names = {"upTo": "up_to", "flatFee": "flat_fee"} | price
    holding = [row for row in rows if row["up_to"] is None or Decimal(row["up_to"]) > 0]
    written = [{name: row[own] for name, own in names.items() if row.get(own) is not None} for row in holding]
    written[-1].pop("upTo", None)
    return written


def _only(value: Any) -> Any:
    """A quantity that may be written as the one of a map of units."""
    if isinstance(value, Mapping):
        (value,) = value.values()
    return value


def converted(transform: Mapping[str, Any]) -> dict[str, Any]:
    rounding = {"ceil": "UP", "floor": "DOWN", "half_up": "HALF_UP", "up": "UP", "down": "DOWN"}.get(
        transform.get("rounding", "none")
    )
    rule = {} if rounding is None else {"rounding": rounding, "precision": int(transform.get("precision") or 0)}
    return {transform["operation"]: transform["factor"], **rule}
