"""Who this program is in the objects that it writes and on the network: how its own results are known again."""

from __future__ import annotations

MANUFACTURER = "mammoscan"  # Manufacturer (0008,0070) of every result
# Implementation Class UID (0002,0012) and Version Name (0002,0013), PS3.7 D.3.3.2. 2.25 of a UUID, once and for all.
CLASS_UID = "2.25.329800735698586629295641978511506172918"
VERSION_NAME = "MAMMOSCAN"
