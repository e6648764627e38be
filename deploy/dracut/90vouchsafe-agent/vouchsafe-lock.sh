#!/bin/sh
# Runs before dracut's emergency shell, at whatever point of the boot: nobody gets the disk's key by it.
vouchsafe-agent lock
