"""THE write: pushed edits (`edits`) and what polled sources say (`polls`) become rows, jobs and audit entries here."""

from idsync.intake.edits import Intake

__all__ = ["Intake"]
