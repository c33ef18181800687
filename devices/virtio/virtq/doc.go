// Package virtq is the device's side of a split virtqueue: it hands out chains
// of buffers that have been validated, so that no device ever sees a descriptor.
//
// Everything that the driver wrote is read once, checked, and used as read. A
// queue that breaks the protocol gives an error wrapping [ErrMalformed], from
// then on for good: the device is told apart from an empty queue, and only a
// reset mends it. Nothing is allocated by a length that the guest chose.
//
// Source: VIRTIO 1.2, section 2.7.
package virtq
