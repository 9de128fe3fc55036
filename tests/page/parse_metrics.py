"""Reads Prometheus text from standard input with prometheus_client's own parser; prints it as JSON.

Must not: be forgiving. Whatever the parser refuses is a failed test.
"""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = []
for family in text_string_to_metric_families(sys.stdin.read()):
    samples = [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples]
    families.append({"name": family.name, "type": family.type, "help": family.documentation, "samples": samples})
json.dump(families, sys.stdout)
