// Package vouchsafe is the root of the module and holds no code: the programs
// are in cmd, what others may import is in the folders beside it, the rest is
// in internal. Start reading in docs/ARCHITECTURE.md.
package vouchsafe
