// Package mmio is virtio's memory-mapped transport: the registers by which a
// driver finds a device, agrees on features, sets up queues and resets it all.
//
// It is the one place with a policy for what a guest does wrong. A malformed
// queue, a worker that fails or panics: the device stops, its status says
// DEVICE_NEEDS_RESET, the driver gets a configuration interrupt, a counter
// goes up and at most one log line in ten seconds tells the host. Registers that
// do not exist read as 0 and ignore writes.
//
//	           ACKNOWLEDGE, DRIVER            FEATURES_OK, QueueReady
//	reset ───────────────────────▶ found ─────────────────────────────▶ set up
//	  ▲                                                                    │ DRIVER_OK
//	  │ status = 0: cancel the worker, join it                             ▼
//	  ├──────────────────────────────────────────────────────────────── running
//	  │                                                                    │ worker fails
//	  └──────────────────────────── needs reset ◀──────────────────────────┘
//
// Source: VIRTIO 1.2, sections 2.1, 3.1, 4.2.2.
package mmio
