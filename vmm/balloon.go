package vmm

import "warder/devices/virtio/balloon"

func (m *Machine) addBalloon() error {
	m.balloon = balloon.New(m.mem)
	return m.addVirtio(m.balloon)
}
