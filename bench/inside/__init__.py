"""What runs inside a VM of the lab: each module is a program that prints its rounds as JSON lines.

    /opt/weft/bin/python -m bench.inside.restore --exports 1000 --rounds 3

A round is an object of numbers; seconds unless its key says otherwise. The outer half is bench.lab.
"""
