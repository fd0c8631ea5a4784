"""An answer as HTML without scripts; all text of data and models is made inert."""

import base64
import html
import json
from collections import Counter

from ctrlrec.app.answers import Outcome, Recommendation
from ctrlrec.runtime.escaping import inert

FLAWS = {
    "nonexistent": "invented",
    "repeat": "listed before",
    "history": "in the history",
    "excess": "more than asked",
}
_SHARES = 6  # categories shown beside those asked about
STYLE = """
.answer ol {margin: .5em 0; padding-left: 2em} .answer li {margin: .35em 0}
.answer small {opacity: .75; display: block} .answer .flaw {color: #b42318; font-weight: 600}
.answer .good {color: #1a7f37; font-weight: 600}
.dark .answer .flaw {color: #ff9a8f} .dark .answer .good {color: #7ee2a0}
.answer table {width: 100%; border-collapse: collapse; border: 0 !important} .answer .count {white-space: nowrap}
.answer caption {text-align: left; font-weight: 600}
.answer td {padding: .15em .4em; vertical-align: middle; border: 0; border-bottom: 1px solid #8884}
.answer .bar {background: #4c72b0; height: .7em; border-radius: 2px}
"""


def page_of(answer: Recommendation, finished: bool = True) -> str:
    """Return an answer with its items, what is wrong with them, and the shares of categories.

    Args:
        answer: all of it, or its first items.
        finished: whether it is all.
    """
    parts = [f'<div class="answer" data-items="{len(answer.items)}"><h3>{_text(answer.model)}</h3><ol>']
    for item in answer.items:
        flaw = f' <span class="flaw">{FLAWS[item.illegal]}</span>' if item.illegal else ""
        next_one = ' <span class="good">taken next</span>' if item.item and item.item == answer.target else ""
        rank = "no rank" if item.teacher_rank is None else f"teacher rank {item.teacher_rank}"
        written = f"written '{item.title}'" if item.item not in (None, item.title) else ""
        said = "; ".join(filter(None, (", ".join(item.categories), rank, f"reward {item.reward:+.2f}", written)))
        parts.append(f"<li>{_text(item.item or item.title)}{flaw}{next_one}<small>{_text(said)}</small></li>")
    parts.append("</ol>")
    if not answer.items and finished:
        parts.append("<p>Nothing was written.</p>")
    if finished:
        parts.append(_shares(answer))
        parts.append(
            f"<p>Items {len(answer.items)}, asked for {answer.item_count}; list reward {answer.list_reward:+.2f}; "
            f"constraint {_text(answer.constraint)}. {_export(answer)}</p>"
        )
    return "".join([*parts, "</div>"])


def error_page(message: str) -> str:
    """Return an error in the place of an answer."""
    return f'<div class="answer"><p class="flaw" role="alert">{_text(message)}</p></div>'


def _shares(answer: Recommendation) -> str:
    """Return the share of each category of the list beside what was asked."""
    counts = Counter(name for item in answer.items[: answer.item_count] for name in item.categories)
    asked = {outcome.wish.category for outcome in answer.outcomes}
    others = [name for name, _ in counts.most_common() if name not in asked][:_SHARES]
    rows = [_share(outcome.wish.category, outcome.count, answer.item_count, outcome) for outcome in answer.outcomes]
    rows += [_share(name, counts[name], answer.item_count) for name in others]
    return f"<table><caption>Shares of the list</caption>{''.join(rows)}</table>"


def _share(name: str, count: int, k: int, outcome: Outcome | None = None) -> str:
    said = ""
    if outcome is not None:
        met = "good" if outcome.satisfied else "flaw"
        said = f'{_text(str(outcome.wish))}: <span class="{met}">{"met" if outcome.satisfied else "not met"}</span>'
    width = min(100, round(100 * count / k))
    bar = f'<div class="bar" style="width:{width}%"></div>'
    share = f"<td>{_text(name)}</td><td style='width:30%'>{bar}</td><td class='count'>{count} of {k}</td>"
    return f"<tr>{share}<td>{said}</td></tr>"


def _export(answer: Recommendation) -> str:
    data = base64.b64encode(json.dumps(answer.record(), indent=2, ensure_ascii=False).encode()).decode()
    return f'<a download="recommendation.json" href="data:application/json;base64,{data}">Save as JSON</a>'


def _text(raw: str) -> str:
    return html.escape(inert(raw))
