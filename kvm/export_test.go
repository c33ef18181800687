package kvm

// Decode decodes the shared region of a vCPU, for fuzzing.
func Decode(region []byte) *Exit {
	e := new(Exit)
	e.decode(region)
	return e
}

// RegionSize is the least a shared region has.
const RegionSize = 304 + 2048
