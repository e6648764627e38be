module github.com/vouchsafe/vouchsafe/test

go 1.26.0

require (
	github.com/google/go-tpm v0.9.8
	github.com/vouchsafe/vouchsafe v0.0.0-00010101000000-000000000000
)

require (
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/vouchsafe/vouchsafe => ../
