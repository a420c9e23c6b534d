"""The form of a run: Django checks what a text field can hold, montemq whether it can be run."""

from typing import Any

from django import forms
from django.conf import settings

import producer
from pricing.runs import SEED, named

MAX_SAMPLES = 1_000_000_000
"""What one visitor may ask for; montemq itself has no such limit."""

FIELDS = {
    "params.strike": "strike",
    "params.volatility": "volatility",
    "params.option_type": "option_type",
    "stop.standard_error": "standard_error",
    "stop.samples": "samples",
}
"""What montemq's sentences begin with, and the form's field that they are about."""


class PriceForm(forms.Form):
    """An arithmetic Asian option with 252 fixings in a year, and how well to know its price.

    Parameters
    ----------
    visitor
        Whose run it will be.

    Attributes
    ----------
    submission
        What to submit, once the form is valid.
    """

    strike = forms.FloatField(initial=100, help_text="The spot is 100.")
    volatility = forms.FloatField(initial=0.2, help_text="Per year: 0.2 is 20 %.")
    option_type = forms.ChoiceField(choices=[("call", "call"), ("put", "put")])
    standard_error = forms.FloatField(
        required=False, help_text="Stop once the price is known so well; empty: take all samples."
    )
    samples = forms.IntegerField(
        initial=1_000_000, max_value=MAX_SAMPLES, help_text="Stop here in any case."
    )

    def __init__(self, *args: Any, visitor: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.submission: producer.Submission | None = None
        self._visitor = visitor

    def clean(self) -> dict[str, Any]:
        """Let montemq check the run, and show what it says at the field that it is about."""
        values = super().clean()
        if not self.errors:
            try:
                self.submission = named(_submission(values), self._visitor)
            except producer.UsageError as error:
                sentence = str(error).removeprefix("submit: ")
                self.add_error(FIELDS.get(sentence.partition(" ")[0]), sentence)
        return values


def _submission(values: dict[str, Any]) -> producer.Submission:
    return producer.prepare(
        "asian",
        seed=SEED,
        pool=settings.MONTEMQ_POOL,
        params={name: values[name] for name in ("strike", "volatility", "option_type")},
        sampling={"control_variates": True},
        outputs={"names": ["price"]},
        stop={
            name: values[name] for name in ("standard_error", "samples") if values[name] is not None
        },
    )
