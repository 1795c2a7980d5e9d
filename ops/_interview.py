"""Decisions of `make init`: taken from options, answers or proposals, and told with their reason."""

import json
import sys

import _guess as guess
from _guess import Guess, Table


class Interview:
    """Takes what was given as an option, else answered on a terminal, else proposed; says which and why."""

    def __init__(self, table: Table, given: dict[str, str | None], ask: bool):
        self.table, self.given, self.ask = table, given, ask

    def column(self, role: str, proposed: Guess) -> Guess:
        """A column, or None for "none"."""
        chosen, why = proposed.value, proposed.why
        if self.given.get(role) is not None:
            chosen, why = self.checked(self.given[role], f"--{role.replace('_', '-')}"), "as asked"
        elif self.ask:
            also = f", or {', '.join(proposed.other)}" if proposed.other else ""
            answer = input(f"{proposed.setting} ({why}) [{chosen or 'none'}{also}]: ").strip()
            if answer:
                chosen, why = self.checked(answer, proposed.setting), "as answered"
        return self.told(Guess(proposed.setting, chosen, why, proposed.other))

    def checked(self, name: str, source: str) -> str | None:
        """The column of that name; exits with one line when there is none."""
        if name.lower() in ("none", "null", "-"):
            return None
        if name not in self.table:
            sys.exit(f"error: {source}: no column {name!r} (there are: {', '.join(self.table)})")
        return name

    def told(self, each: Guess) -> Guess:
        """Print a decision with its reason."""
        value = each.value if isinstance(each.value, str) else json.dumps(each.value)
        also = f"; {', '.join(each.other)} would fit too" if each.other and each.why != "as asked" else ""
        print(f"{each.setting}: {value}   ({each.why}{also})")
        return each


def covariates(interview: Interview, wanted: list[str]) -> list[dict]:
    """Entries of load.covariates: those asked for, else the first column for condition, age and sex."""
    if wanted:
        found = [asked_covariate(text, interview) for text in wanted]
        for each in found:
            interview.told(Guess(f"load.covariates ({each['name']})", each["column"], "as asked"))
        return found
    found = []
    for role in ("condition", "age", "sex"):
        column = interview.column(role, guess.find(role, interview.table)).value
        if column is not None:
            found.append(guess.covariate(role, column, interview.table, {each["name"] for each in found}))
    return found


def asked_covariate(text: str, interview: Interview) -> dict:
    """NAME=COLUMN:TYPE or COLUMN; the type is found when it is not said."""
    name, equal, column = text.rpartition("=")
    kinds = ("numeric", "categorical", "stage")
    kind = next((kind for kind in kinds if column.endswith(f":{kind}")), None)
    column = interview.checked(column.removesuffix(f":{kind}"), "--covariate")
    if column is None:
        sys.exit("error: --covariate none: leave the option out")
    found = interview.table[column]
    return {
        "name": name if equal else guess.covariate_name(column, set()),
        "column": column,
        "type": kind or guess.kind_of_number(found) or "categorical",
    }
