"""Saddlescope: is training stuck at a minimum or a saddle, and what is the way out?"""
