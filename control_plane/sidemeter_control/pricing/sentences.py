"""Every sentence that a customer reads on a line of a price, in a quota, an alert or a forecast, in every language there is.

Names in braces are filled in by `words`; `{at}` is one of the four ends beginning with `at`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

__all__ = ["SENTENCES", "Language", "Sentences"]


class Language(Enum):
    """What a price or a quota is explained in."""

    EN = "EN"
    DE = "DE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentences:
    """One language's sentences."""

    units: str
    fee: str
    credit: str
    included: str
    usage_discount: str
    at: str
    at_plus: str
    at_flat: str
    at_nothing: str
    each: str
    package: str
    packages: str
    first: str
    next: str
    whole: str
    event: str
    events: str
    events_free: str
    events_between: str
    fixed_each: str
    events_at_minimum: str
    events_at_maximum: str
    matched: str
    any_of: str
    unmatched: str
    band: str
    daily: str
    other_times: str
    dynamic: str
    provisional: str
    confirmed: str
    expired: str
    reversed: str
    converted: str
    rounded_up: str
    rounded_down: str
    rounded: str
    discount: str
    maximum: str
    minimum: str
    unused_time: str
    minimum_spend: str
    up_to_minimum: str
    commitment: str
    not_used: str
    beyond_commitment: str
    commitment_discount: str
    counted_late: str
    billed_then: str
    billed_before: str
    in_period: str
    date: str
    from_plan: str
    agreed: str
    add_on: str
    left_over: str
    credits: str
    budget_threshold: str
    credits_threshold: str
    quota_threshold: str
    overage_started: str
    limit_denied: str
    lease_in_doubt: str
    budget_forecast: str
    quota_forecast: str
    forecast_basis: str
    forecast_unused: str
    forecast_held: str
    forecast_too_little: str
    forecast_not_additive: str
    forecast_negative: str
    forecast_being_counted: str
    forecast_too_far: str


SENTENCES: Mapping[Language, Sentences] = {
    Language.EN: Sentences(
        units="units",
        fee="recurring fee",
        credit="recurring credit",
        included="{amount} included",
        usage_discount="{amount} free by discount",
        at=" at {price}",
        at_plus=" at {price} plus {flat} flat",
        at_flat=" for {flat} flat",
        at_nothing=" free",
        each="{amount}{at}",
        package="{count} package of {amount}{at}",
        packages="{count} packages of {amount}{at}",
        first="first {amount}{at}",
        next="next {amount}{at}",
        whole="all {amount}{at}",
        event="{count} event",
        events="{count} events",
        events_free="{events} free, {money} in all",
        events_between="{rate} of {money}{fixed}",
        fixed_each=" plus {fixed} for each of {events}",
        events_at_minimum="{events} at the minimum of {money}",
        events_at_maximum="{events} at the maximum of {money}",
        matched="{amount} ({match}){at}",
        any_of=" or ",
        unmatched="{amount} of any other kind{at}",
        band="{amount}, {days} {begin} to {end}{at}",
        daily="daily",
        other_times="{amount} at all other times{at}",
        dynamic="{money} as priced by the events",
        provisional="{amount}{at}, provisional until confirmed or reversed",
        confirmed="{amount} confirmed{at}",
        expired="{amount}{at}, not reversed in time",
        reversed="{amount} reversed, not charged",
        converted="{amount}{factors}{rounding} = {result}",
        rounded_up=", rounded up",
        rounded_down=", rounded down",
        rounded=", rounded",
        discount="discount of {percentages}",
        maximum="lowered to the maximum of {money}",
        minimum="raised to the minimum of {money}",
        unused_time="unused time",
        minimum_spend="Minimum spend",
        up_to_minimum="up to the minimum of {minimum}, {spent} of it spent",
        commitment="Commitment",
        not_used="{rest} not used of the {committed} committed",
        beyond_commitment="{excess} beyond the {committed} committed, at {factor} times the price",
        commitment_discount="{percentage} off the {committed} committed",
        counted_late="{name}, counted late",
        billed_then="less what is billed already",
        billed_before="less {amount} billed before",
        in_period="{name}, {first} to {last}",
        date="%Y-%m-%d",
        from_plan="Plan {name}, version {version}",
        agreed="Agreed with this customer",
        add_on="Add-on",
        left_over="Left over from earlier periods",
        credits="Credits",
        credits_threshold="{percent} of the credits are spent: {used} of {amount}",
        budget_threshold="{percent} of the budget {name} is spent: {used} of {amount}",
        quota_threshold="{percent} of the quota {name} is used: {used} of {amount}",
        overage_started="More is used than the quota {name} has: {used} of {amount}",
        limit_denied="Something was refused, because {name} allows no more: {used} of {amount} are used",
        lease_in_doubt="{used} of {name} ({amount}) are held by an agent that does not answer",
        budget_forecast="At this pace the budget {name} is exceeded on {day}: {used} of {amount} so far",
        quota_forecast="At this pace the quota {name} is used up on {day}: {used} of {amount} so far",
        forecast_basis=(
            "From the use of the last {days} days: how it spreads over the week, how much it is of late, and how it grows"
            " or shrinks. In 8 of 10 cases it ends within the range."
        ),
        forecast_unused="Nothing that counts was used in the last 8 weeks, so nothing more is expected.",
        forecast_held=" Taken as it stands now, because it is no sum over time: {names}.",
        forecast_too_little="There is too little data yet: a forecast needs two weeks of use.",
        forecast_not_additive="What is no sum over time has no pace to forecast.",
        forecast_negative="What was also taken back has no pace to forecast.",
        forecast_being_counted="Older events are still being counted.",
        forecast_too_far="The period ends in more than a year.",
    ),
    Language.DE: Sentences(
        units="Einheiten",
        fee="wiederkehrende Gebühr",
        credit="wiederkehrende Gutschrift",
        included="{amount} inklusive",
        usage_discount="{amount} frei durch Rabatt",
        at=" zu je {price}",
        at_plus=" zu je {price} zuzüglich {flat} pauschal",
        at_flat=" für pauschal {flat}",
        at_nothing=" kostenlos",
        each="{amount}{at}",
        package="{count} Paket mit {amount}{at}",
        packages="{count} Pakete mit {amount}{at}",
        first="die ersten {amount}{at}",
        next="die nächsten {amount}{at}",
        whole="insgesamt {amount}{at}",
        event="{count} Vorgang",
        events="{count} Vorgänge",
        events_free="{events} kostenlos, zusammen {money}",
        events_between="{rate} von {money}{fixed}",
        fixed_each=" zuzüglich je {fixed} für {events}",
        events_at_minimum="{events} zum Mindestbetrag von {money}",
        events_at_maximum="{events} zum Höchstbetrag von {money}",
        matched="{amount} ({match}){at}",
        any_of=" oder ",
        unmatched="{amount} jeder anderen Art{at}",
        band="{amount}, {days} {begin} bis {end} Uhr{at}",
        daily="täglich",
        other_times="{amount} zu allen anderen Zeiten{at}",
        dynamic="{money} laut Preis der Vorgänge",
        provisional="{amount}{at}, vorläufig bis zur Bestätigung oder Stornierung",
        confirmed="{amount} bestätigt{at}",
        expired="{amount}{at}, nicht rechtzeitig storniert",
        reversed="{amount} storniert, nicht berechnet",
        converted="{amount}{factors}{rounding} = {result}",
        rounded_up=", aufgerundet",
        rounded_down=", abgerundet",
        rounded=", gerundet",
        discount="Rabatt von {percentages}",
        maximum="gesenkt auf den Höchstbetrag von {money}",
        minimum="angehoben auf den Mindestbetrag von {money}",
        unused_time="nicht genutzte Zeit",
        minimum_spend="Mindestumsatz",
        up_to_minimum="bis zum Mindestumsatz von {minimum}, davon {spent} erreicht",
        commitment="Abnahmeverpflichtung",
        not_used="{rest} der zugesagten {committed} nicht genutzt",
        beyond_commitment="{excess} über die zugesagten {committed} hinaus, zum {factor}-fachen Preis",
        commitment_discount="{percentage} Nachlass auf die zugesagten {committed}",
        counted_late="{name}, nachträglich erfasst",
        billed_then="abzüglich bereits Berechnetem",
        billed_before="abzüglich {amount}, bereits berechnet",
        in_period="{name}, {first} bis {last}",
        date="%d.%m.%Y",
        from_plan="Tarif {name}, Version {version}",
        agreed="Mit diesem Kunden vereinbart",
        add_on="Zusatzkontingent",
        left_over="Aus früheren Zeiträumen übrig",
        credits="Guthaben",
        credits_threshold="{percent} des Guthabens sind verbraucht: {used} von {amount}",
        budget_threshold="{percent} des Budgets {name} sind ausgegeben: {used} von {amount}",
        quota_threshold="{percent} des Kontingents {name} sind verbraucht: {used} von {amount}",
        overage_started="Es ist mehr verbraucht, als das Kontingent {name} umfasst: {used} von {amount}",
        limit_denied="Etwas wurde abgelehnt, weil {name} nicht mehr zulässt: {used} von {amount} sind verbraucht",
        lease_in_doubt="{used} von {name} ({amount}) liegen bei einem Agenten, der nicht antwortet",
        budget_forecast="Bei diesem Tempo wird das Budget {name} am {day} überschritten: bisher {used} von {amount}",
        quota_forecast="Bei diesem Tempo ist das Kontingent {name} am {day} aufgebraucht: bisher {used} von {amount}",
        forecast_basis=(
            "Aus der Nutzung der letzten {days} Tage: wie sie sich über die Woche verteilt, wie hoch sie zuletzt war und"
            " ob sie wächst oder sinkt. In 8 von 10 Fällen endet sie in der Spanne."
        ),
        forecast_unused="In den letzten 8 Wochen wurde nichts genutzt, was zählt; deshalb wird nichts weiter erwartet.",
        forecast_held=" Angesetzt wie im Augenblick, weil es keine Summe über die Zeit ist: {names}.",
        forecast_too_little="Es gibt noch zu wenige Daten: Eine Prognose braucht zwei Wochen Nutzung.",
        forecast_not_additive="Was keine Summe über die Zeit ist, hat kein Tempo, das sich fortschreiben ließe.",
        forecast_negative="Was auch zurückgenommen wurde, hat kein Tempo, das sich fortschreiben ließe.",
        forecast_being_counted="Ältere Ereignisse werden noch gezählt.",
        forecast_too_far="Der Zeitraum endet erst in mehr als einem Jahr.",
    ),
}
