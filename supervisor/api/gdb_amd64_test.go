package api

var spin = []byte{0xeb, 0xfe}
