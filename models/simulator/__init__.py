"""Simulated people whose truth is known: to prove that the machinery works, never to claim quality.

The learner never sees what is in here; it sees impressions and clicks. Shape after RecSim (Ie et al.
2019): latent tastes, an intent a session, position-based examination.
"""
