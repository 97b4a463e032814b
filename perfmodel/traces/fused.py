PREFIX = "triton_"
def launched(operator, activity):
    return ()
