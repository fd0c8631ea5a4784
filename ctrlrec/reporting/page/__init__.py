"""``report.html``: one self-contained page that shows what a sweep found."""
