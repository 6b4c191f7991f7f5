"""One module a kind of result: ``render(StudyResult, ReportContext) -> bytes``."""
