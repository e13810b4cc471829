"""Faults on purpose: kills, full disks, damaged files, rival writers, clock jumps, lost processes."""
