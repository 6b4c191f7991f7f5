"""Storms: broken files by the thousand, killed runs, failing machines; and the bars they are held to."""
