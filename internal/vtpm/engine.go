package vtpm

import "github.com/vouchsafe/vouchsafe/tpm2/engine"

// ClassicalSet is engine.ClassicalSet, for [Config] and [Provisioning].
const ClassicalSet = engine.ClassicalSet

// engineMaker makes TPMs of tpm2/engine with the operating system's entropy
// and the runtime's clock.
var engineMaker = maker{
	manufacture: func(s store, buffer int, set uint32) (machine, error) {
		return engine.Manufacture(engine.Config{Store: s, Buffer: buffer, AlgorithmSet: set})
	},
	powerOn: func(s store, permanent []byte, buffer int) (machine, error) {
		return engine.PowerOn(engine.Config{Store: s, Buffer: buffer}, permanent)
	},
}
