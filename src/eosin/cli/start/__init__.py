"""The first hour: what `eosin` alone says, what this machine can do, and which page an error belongs to."""
