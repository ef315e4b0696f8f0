"""What Freshet is made of: locked packages, their licences and advisories, images of containers."""
