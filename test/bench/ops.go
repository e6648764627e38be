package main

import "slices"

// ops are all operations, in the order of the table.
func ops() []op {
	return slices.Concat(smallOps, keyOps(), signOps(), sealOps(), nvOps(), sessionOps(), objectOps())
}
