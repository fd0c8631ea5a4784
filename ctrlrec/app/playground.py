"""A page to play with: ``ctrlrec app`` asks one or two models side by side.

It needs the extra ``app`` (gradio). It listens on 127.0.0.1 unless told otherwise, and sends nothing anywhere.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlrec.app.answer_page import STYLE, error_page, page_of
from ctrlrec.app.questions import Question
from ctrlrec.app.wishes import Wish, word_of
from ctrlrec.config.files import choices_of
from ctrlrec.controls.blends import MOST
from ctrlrec.controls.registry import CONTROLS, controls, kind_of
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.printing import command

if TYPE_CHECKING:
    import gradio

    from ctrlrec.app.recommender import Recommender

_LONGEST_LIST, _ROWS, _WAITING = 15, 2, 20  # items asked for; models side by side; questions in the queue
_NARROW = 240  # pixels; two fields of that width stand below each other on a phone
_AS_TRAINED, _NOBODY = "as in its run", "nobody: the history instead"


def question_of(user: str | None, history: Sequence[str] | None, k: float, constraint: str, *chosen: Any) -> Question:
    """Return the question that the fields of the page hold.

    Args:
        user: id, or nothing.
        history: titles; only looked at without a user.
        k: number of items.
        constraint: a choice, or that of the run.
        chosen: for each control in its order the categories, and after them the percentage if it takes one.
    """
    fields, wishes = iter(chosen), []
    for control in controls():
        names = next(fields) or ()
        percent = int(next(fields)) if control.takes_percent else None
        wishes += [Wish(kind_of(control), name, percent) for name in names]
    named = None if constraint == _AS_TRAINED else constraint
    return Question(() if user else tuple(history or ()), user or None, tuple(wishes), int(k), named)


def fields_of(question: Question) -> list[Any]:
    """Return the values of the fields that hold a question; :func:`question_of` reads them.

    One control has one percentage on the page: that of its last wish.
    """
    values: list[Any] = [question.user or "", list(question.history), question.k, question.constraint or _AS_TRAINED]
    for kind in map(kind_of, controls()):
        own = [wish for wish in question.wishes if wish.kind == kind]
        values.append([wish.category for wish in own])
        if CONTROLS[kind].takes_percent:
            values.append(own[-1].percent if own else 30)
    return values


def answers(recommender: "Recommender", *fields: Any) -> Iterator[tuple[str, str, str]]:
    """Yield page, prompt and raw text of a growing answer."""
    try:
        last = None
        for answer in recommender.stream(**question_of(*fields).asked()):
            last = answer
            yield page_of(answer, finished=False), answer.prompt, answer.response
        if last is not None:
            yield page_of(last), last.prompt, last.response
    except CtrlRecError as error:
        yield error_page(str(error)), "", ""


def build(recommenders: Sequence["Recommender"]) -> "gradio.Blocks":
    """Return the page over one or two models; users and titles are those of the first."""
    import gradio as gr

    first = recommenders[0]
    with gr.Blocks(title="ctrlrec", analytics_enabled=False) as page:
        gr.Markdown(
            "# ctrlrec\nRecommendations under control. Choose a user or build a history, say what you want, and ask."
        )
        with gr.Row():
            people = [(_NOBODY, ""), *((name, name) for name in first.users)]
            user = gr.Dropdown(people, value="", label="User of the data", info="or build a history", min_width=_NARROW)
            history = gr.Dropdown(
                list(first.titles), value=[], multiselect=True, max_choices=first.history_length,
                label="History, oldest first", info="type a title", scale=3, min_width=_NARROW,
            )  # fmt: skip
        fields: list[Any] = []
        for control in controls():
            word = word_of(kind_of(control)).capitalize()
            with gr.Row():
                label = f"{word} a share of" if control.takes_percent else f"{word} of"
                fields.append(
                    gr.Dropdown(
                        list(first.categories), value=[], multiselect=True, max_choices=MOST, label=label, scale=3,
                        min_width=_NARROW,
                    )
                )  # fmt: skip
                if control.takes_percent:
                    fields.append(gr.Slider(0, 100, value=30, step=5, label=f"{word}, percent", min_width=_NARROW))
        with gr.Row():
            k = gr.Slider(1, _LONGEST_LIST, value=10, step=1, label="Number of items", min_width=_NARROW)
            constraint = gr.Radio(
                [_AS_TRAINED, *choices_of("constraint")], value=_AS_TRAINED, label="Constraint", min_width=_NARROW
            )
        inputs = [user, history, k, constraint, *fields]
        ask = gr.Button("Ask", variant="primary", interactive=False)  # until the question of the link is there
        link = gr.Textbox(label="Link to this question", interactive=False, buttons=["copy"])
        shown = []
        with gr.Row():
            for recommender in recommenders:
                with gr.Column(min_width=_NARROW):
                    outputs: list[Any] = [gr.HTML(label=recommender.name)]
                    with gr.Accordion("Prompt and raw answer", open=False):
                        outputs += [gr.Textbox(label="Prompt", lines=4), gr.Textbox(label="Raw answer", lines=4)]
                    shown.append((partial(answers, recommender), outputs))

        def linked(request: gr.Request, *values: Any) -> str:
            page = str(request.request.url.replace(path="/", query="")) if request.request else ""
            return page + question_of(*values).link()

        def opened(request: gr.Request) -> list[Any]:
            try:
                query = request.query_params.multi_items()
                question = Question.of_link(query) if query else _beginning(first)
            except CtrlRecError as error:
                gr.Warning(str(error), duration=None)
                question = _beginning(first)
            return [*fields_of(question), gr.Button(interactive=True)]

        ask.click(linked, inputs, link, api_name="link")
        for number, (answer, outputs) in enumerate(shown):
            ask.click(answer, inputs, outputs, api_name=f"ask_{number}", concurrency_limit=_ROWS)
        page.load(opened, None, [*inputs, ask], api_name=False)
    return page.queue(max_size=_WAITING)


def _beginning(recommender: "Recommender") -> Question:
    """Return what the page holds when it is opened without a link."""
    if recommender.users:
        return Question(user=recommender.users[0])
    return Question(recommender.example_history())


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Open a page that asks one or two models side by side.")
    made.add_argument("--run", type=Path, nargs="+", metavar="FOLDER", help="one or two finished results")
    made.add_argument("--model", nargs="+", metavar="NAME", help="released models; the one of the package if alone")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)")
    made.add_argument("--port", type=int, default=7860, help="port to listen on (7860)")
    return made


@command
def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    with explained(Path.cwd()):
        page = build(_recommenders(arguments))
        launch(page, arguments.host, arguments.port)


def launch(page: "gradio.Blocks", host: str, port: int, wait: bool = True) -> str:
    """Serve a page and return its address; with ``wait`` until Ctrl-C.

    Raises:
        CtrlRecError: if the port is taken.
    """
    import gradio as gr

    plain = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # no fonts from elsewhere
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, share=False, prevent_thread_lock=not wait, quiet=not wait, theme=plain,
            css=STYLE, ssr_mode=False, mcp_server=False, enable_monitoring=False, footer_links=[], run_history=False,
            allowed_paths=[], max_file_size=1,
        )  # fmt: skip
    except OSError as error:
        raise CtrlRecError(f"--host {host} --port {port}: {error}; choose another port") from None
    return address


def _recommenders(arguments: argparse.Namespace) -> list["Recommender"]:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise CtrlRecError("gradio is not installed: pip install 'ctrlrec[app]'") from None
    from ctrlrec.app.loading import released
    from ctrlrec.app.recommender import Recommender

    paths = [*(arguments.run or ()), *map(released, arguments.model or ())] or [released()]
    if len(paths) > _ROWS:
        raise CtrlRecError(f"{len(paths)} models: the page shows at most {_ROWS} side by side")
    return [Recommender.load(path) for path in paths]


if __name__ == "__main__":
    sys.exit(main())
