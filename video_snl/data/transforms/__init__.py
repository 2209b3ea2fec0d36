"""Operations on pixels: geometry, augmentation, mixing."""
