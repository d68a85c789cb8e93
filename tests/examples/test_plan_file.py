"""The example's plan is one: it keeps the published schema, reads, and is right."""

import json

from jsonschema import Draft202012Validator
from processes import ROOT

from sidemeter_control.plans_as_code import read_plans
from sidemeter_control.pricing.documents import plan_schema
from sidemeter_control.pricing.plan_files import read_yaml


def test_the_example_of_a_plan_file_holds() -> None:
    text = (ROOT / "examples" / "plan.yaml").read_text()
    (plan,) = read_plans(text)
    assert (plan.key, len(plan.charges), len(plan.entitlements)) == ("pro", 2, 2)
    (written,) = read_yaml(text)
    Draft202012Validator(json.loads(json.dumps(plan_schema()))).validate(written)
