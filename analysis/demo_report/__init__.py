"""The demo: its plan, its artefacts and its report."""
