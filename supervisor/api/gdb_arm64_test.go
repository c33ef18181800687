package api

var spin = []byte{0, 0, 0, 0x14}
