"""Airflow triggers of EarthSelf; the steps in pods will wait here."""
