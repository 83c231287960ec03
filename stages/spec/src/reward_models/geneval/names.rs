//! What the network's classes are called in GenEval's metadata.

/// COCO's names, and those of older lists, that GenEval writes otherwise.
const OTHERWISE: [(&str, &str); 17] = [
    ("mouse", "computer mouse"),
    ("remote", "tv remote"),
    ("keyboard", "computer keyboard"),
    // Names of COCO's classes in the lists that darknet began.
    ("motorbike", "motorcycle"),
    ("aeroplane", "airplane"),
    ("sofa", "couch"),
    ("pottedplant", "potted plant"),
    ("diningtable", "dining table"),
    ("tvmonitor", "tv"),
    ("tv monitor", "tv"),
    ("television", "tv"),
    ("cellphone", "cell phone"),
    ("mobile phone", "cell phone"),
    ("doughnut", "donut"),
    ("hotdog", "hot dog"),
    ("hair dryer", "hair drier"),
    ("hairdrier", "hair drier"),
];

/// GenEval's name of a class that the network's `id2label` calls `label`. GenEval itself goes by the order of the
/// classes, which a name makes unnecessary. A label that is not in the list keeps its own.
pub fn geneval(label: &str) -> String {
    let plain = label.trim().to_lowercase().replace(['_', '-'], " ");
    OTHERWISE.iter().find(|(from, _)| *from == plain).map_or(plain, |(_, to)| (*to).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ() {
        for (label, name) in [
            ("person", "person"),
            ("Traffic_Light", "traffic light"),
            ("mouse", "computer mouse"),
            ("remote", "tv remote"),
            ("keyboard", "computer keyboard"),
            ("tvmonitor", "tv"),
            ("zeppelin", "zeppelin"),
        ] {
            assert_eq!(geneval(label), name);
        }
    }
}
