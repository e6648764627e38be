// Package enroll is the life of a VM: what the service remembers of it, and
// the steps it goes through. Its values and the small interfaces it asks for
// are in values.go; package store implements them.
package enroll
