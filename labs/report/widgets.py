"""Controls that move a figure: ipywidgets over the pure functions of a FigureSpec.

The controls are widgets; the plot, its sentence and its table are ordinary outputs of the cell, replaced in
place (`display.Shown`). So no plotly.js goes into the notebook (a FigureWidget saves 5 MB with it), the
cell's last state is what papermill keeps and nbconvert shows, and without a front end the figure just stands.
"""

from collections.abc import Sequence
from typing import Any

from labs.core.record import Record
from labs.report import display, figure
from labs.report.figure import Control, FigureSpec, Predictions, Rendered


class Explorer:
    """A figure with controls. `values` is what they say; `set` turns one as a reader would."""

    def __init__(
        self, spec: FigureSpec, records: Sequence[Record], predictions: Predictions | None, **start: Any
    ) -> None:
        self.spec, self.records, self.predictions = spec, list(records), predictions or {}
        self.values = figure.settings(spec, records, start)
        self.rendered = self._render()
        self.widgets: dict[str, Any] = {}
        self._shown: display.Shown | None = None

    def show(self) -> "Explorer":
        """Display controls, plot, sentence and table."""
        if display.in_notebook() and self.spec.controls and not self.rendered.empty:
            self._show_controls()
        self._shown = display.show(self.rendered)
        return self

    def set(self, name: str, value: Any) -> Rendered:
        """Turn control `name` to `value` and redraw. UserError for an unknown control or option."""
        self.values = figure.settings(self.spec, self.records, {**self.values, name: value})
        self.rendered = self._render()
        if self._shown:
            self._shown.update(self.rendered)
        return self.rendered

    def _render(self) -> Rendered:
        return figure.render(self.spec, self.records, self.predictions, **self.values)

    def _show_controls(self) -> None:
        import ipywidgets
        from IPython.display import display as ipython_display

        for name, control in self.spec.controls.items():
            choices = control.choices(self.records)
            if len(choices) > 1:  # one option is nothing to turn
                self.widgets[name] = build(control, choices, self.values[name])
                self.widgets[name].observe(self._observer(name), names="value")
        if self.widgets:
            box = ipywidgets.HBox(list(self.widgets.values()))
            box.layout.flex_flow = "row wrap"
            box.layout.grid_gap = "4px 28px"
            # A saved notebook has no controls to turn: it shows this line instead of the box's Python repr.
            names = ", ".join(self.spec.controls[name].label for name in self.widgets)
            said = {"text/plain": f"Controls: {names}. Run the cell to turn them."}
            ipython_display({**box._repr_mimebundle_(), **said}, raw=True)

    def _observer(self, name: str) -> Any:
        def turned(change: Any) -> None:
            if change["new"] != self.values[name]:
                self.set(name, change["new"])

        return turned


def explore(
    spec: FigureSpec, records: Sequence[Record], predictions: Predictions | None = None, **start: Any
) -> Explorer:
    """Show `spec` with its controls, starting at `start` (defaults for the rest)."""
    return Explorer(spec, records, predictions, **start).show()


def build(control: Control, choices: Sequence[Any], value: Any) -> Any:
    """The widget of one control: a slider for numbers, a tick box for True/False, else a list."""
    import ipywidgets

    kind = kind_of(control, choices)
    common = {
        "description": control.label,
        "tooltip": control.label,
        "style": {"description_width": "initial"},
    }
    options = [(control.text(choice), choice) for choice in choices]
    if kind == "checkbox":
        return ipywidgets.Checkbox(value=value, indent=False, **common)
    if kind == "slider":
        width = ipywidgets.Layout(width="min(30rem, 100%)")
        return ipywidgets.SelectionSlider(options=options, value=value, layout=width, **common)
    width = ipywidgets.Layout(width="max-content")
    return ipywidgets.Dropdown(options=options, value=value, layout=width, **common)


def kind_of(control: Control, choices: Sequence[Any]) -> str:
    """`control.kind`, or what fits the options: numbers slide, True/False tick, anything else is a list."""
    if control.kind != "auto":
        return control.kind
    if set(choices) == {True, False} and all(isinstance(choice, bool) for choice in choices):
        return "checkbox"
    numbers = all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)
    return "slider" if numbers else "dropdown"
