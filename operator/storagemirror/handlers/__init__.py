"""The only kopf; thin."""
