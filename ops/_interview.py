"""Make the decisions of `make init` from options, answers or proposals, and print them with their reason."""

import difflib
import json
import sys

import _guess as guess
from _guess import Guess, Table

NONE = ("none", "null", "-")  # answers that leave a column out


class Interview:
    """Takes the value of an option, else an answer on the terminal, else the proposal, and prints it."""

    def __init__(self, table: Table, given: dict[str, str | None], ask: bool):
        self.table, self.given, self.ask = table, given, ask

    def column(self, role: str, proposed: Guess) -> Guess:
        """A column, or None for "none"."""
        chosen, why = proposed.value, proposed.why
        if self.given.get(role) is not None:
            chosen, why = self.check(self.given[role], f"--{role.replace('_', '-')}"), "as asked"
        elif self.ask and (answer := self.prompt(proposed)):
            chosen, why = self.check(answer, proposed.setting), "as answered"
        return self.report(Guess(proposed.setting, chosen, why, proposed.other))

    def prompt(self, proposed: Guess) -> str:
        """The answer on the terminal, empty for Enter; asks again until it is a column or "none"."""
        also = f"; {', '.join(proposed.other)} would fit too" if proposed.other else ""
        while True:
            enter = f"Enter: {proposed.value or 'none'}{also}"
            answer = input(f"{proposed.setting} ({proposed.why}) [{enter}]: ").strip()
            if not answer or answer.lower() in NONE or answer in self.table:
                return answer
            near = difflib.get_close_matches(answer, self.table, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            print(f"  no column {answer!r}{hint} Enter takes the proposal, none leaves it out; columns:")
            print(f"  {', '.join(self.table)}")

    def check(self, name: str, source: str) -> str | None:
        """The column of that name; exits with one line when there is none."""
        if name.lower() in NONE:
            return None
        if name not in self.table:
            sys.exit(f"error: {source}: no column {name!r} (there are: {', '.join(self.table)})")
        return name

    def report(self, decision: Guess) -> Guess:
        """Print a decision with its reason."""
        value = decision.value if isinstance(decision.value, str) else json.dumps(decision.value)
        also = (
            f"; {', '.join(decision.other)} would fit too"
            if decision.other and decision.why != "as asked"
            else ""
        )
        print(f"{decision.setting}: {value}   ({decision.why}{also})")
        return decision


def choose_covariates(interview: Interview, wanted: list[str]) -> list[dict]:
    """Entries of load.covariates: those asked for, else the first column for condition, age and sex."""
    if wanted:
        found = [parse_covariate(text, interview) for text in wanted]
        for entry in found:
            interview.report(Guess(f"load.covariates ({entry['name']})", entry["column"], "as asked"))
        return found
    found = []
    for role in ("condition", "age", "sex"):
        column = interview.column(role, guess.find_column(role, interview.table)).value
        if column is not None:
            found.append(
                guess.describe_covariate(role, column, interview.table, {entry["name"] for entry in found})
            )
    return found


def parse_covariate(text: str, interview: Interview) -> dict:
    """An entry from NAME=COLUMN:TYPE or COLUMN; without a type it is guessed."""
    name, equal, column = text.rpartition("=")
    kinds = ("numeric", "categorical", "stage")
    kind = next((kind for kind in kinds if column.endswith(f":{kind}")), None)
    column = interview.check(column.removesuffix(f":{kind}"), "--covariate")
    if column is None:
        sys.exit("error: --covariate none: leave the option out")
    found = interview.table[column]
    return {
        "name": name if equal else guess.name_covariate(column, set()),
        "column": column,
        "type": kind or guess.detect_number_type(found) or "categorical",
    }
