module github.com/vouchsafe/vouchsafe/test

go 1.26.0

require github.com/google/go-tpm v0.9.8

require golang.org/x/sys v0.26.0 // indirect

replace github.com/vouchsafe/vouchsafe => ../
